export {
  DEMAND_IMPORT,
  DEMANDED_EXPORT,
  type LinkedModule,
  LOAD_DATA_EXPORT,
  linkModules,
  type SideModule,
} from './link-modules.ts';
